"""What RabbitMQ should hold, what it holds, and the difference. All but the sources without I/O.

wanted     a topology in AMQP's words
found      what a source saw at the broker, and what it could not see
entries    RabbitMQ's JSON
definitions, management   the sources: an exported file, the management API
change     one line of a plan
policies   policies and time-outs that work against what is declared
diff       the plan: wanted against found
"""
