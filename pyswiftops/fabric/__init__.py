"""Is the network between the nodes as fast as it should be: all-reduce, pairs, and who is to blame.

``schedule`` says who measures with whom, ``plan`` makes of it a job for each node, ``node`` is the
program of that job, ``readings`` and ``verdicts`` judge what came back, ``picture`` draws it, and
``checking`` is the SDK's way through all of it.
"""
