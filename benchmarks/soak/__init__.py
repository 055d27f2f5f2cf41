"""The soak test: a real service makes exports for hours while the memory of its long-lived processes is sampled."""
