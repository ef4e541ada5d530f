"""The pocket world: generated problems whose true error positions are known."""
