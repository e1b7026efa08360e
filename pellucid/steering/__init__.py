"""Features and vectors become edits: finding them, applying them in value space, proving that they took effect."""
