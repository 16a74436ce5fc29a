"""The program that measures, sent to every node as it stands: Python 3.9 and torch alone."""
