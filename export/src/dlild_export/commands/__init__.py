"""The sub-commands of `dlild-export`, a module each."""
