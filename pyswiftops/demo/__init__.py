"""The main job on the embedded fleet: a real model learns a name, is served, and answers."""
