"""Renderers: spec + matrix row + node facts in, commands out. Pure: no disk, no clock.

``command`` holds what a command is, ``node`` the facts of a node, ``lines/`` the flag tables of
the release lines, and ``render`` the one entry that turns a job's name into its commands.
"""
