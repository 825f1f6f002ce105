"""What RabbitMQ should hold, what it holds, and the difference. All but the sources without I/O.

wanted     a topology in AMQP's words
found      what a source saw at the broker, and what it could not see
definitions, management, amqp   the sources: an exported file, the management API, AMQP alone
looking    which of them is asked
change     one line of a plan
policies   policies and time-outs that work against what is declared
diff       the plan: wanted against found
pruning    removes what nobody declares
"""
