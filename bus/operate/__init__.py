"""What people look at and repair: the model of the command line.

projections      read collections: how far, from what, built anew, moved back
deadletters      what was given up, listed, understood and brought back
deadletter_view  how it is shown, parked streams with it
events           what is in the log, shown as it is stored
conversation     commands and events, each beneath the one that caused it
"""
