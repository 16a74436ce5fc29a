"""What the roles that install do, as pure functions: a row and facts of a node -> commands."""
