"""Files that nodes get beside their jobs: sshd, mesh, pdsh, mirrors; pure text, and pinned keys."""
