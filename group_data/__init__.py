"""Every pin and path in one place: the defaults of all deploys, and pyinfra's group data for all hosts."""
