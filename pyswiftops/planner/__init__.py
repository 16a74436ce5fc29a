"""From a fleet and a spec to a plan: every command of every node, checked before it runs."""
