"""Which interface and which RDMA devices a fleet trains over, and why; pure.

``facts`` reads what nodes tell (the module ``network_facts``), ``decide`` turns the facts of all
nodes into an environment for each, with a reason for every value and findings about what is not
as it should be; ``document`` is what the controller keeps of it.
"""
