"""The demo: product events that keep coming, and the whole stack around them on one machine."""
