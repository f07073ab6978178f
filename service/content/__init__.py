"""From what clients send to items; pictures by digest."""
