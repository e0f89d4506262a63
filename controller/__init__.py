"""What one pyinfra run cannot have: order, time, people; errors with a cure, a lock, one status."""
