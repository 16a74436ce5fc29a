"""The command ``swiftops``: parse, call the SDK, print."""
