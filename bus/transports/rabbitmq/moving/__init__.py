"""Brings what is in one queue to another one without losing a message.

alone      lets one process at a time do so
draining   takes messages from a queue, each acknowledged once it is where it should be
anew       makes a queue anew that has other properties, with what is in it
renaming   brings the messages of a renamed subscription to its new queue
"""
