"""Where finished exports are announced or sent, one module each."""
