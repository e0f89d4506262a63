"""The pyinfra inventory of the running lab: `pyinfra lab/inventory.py gb10.deploys.cluster --dry`.

GB10_LAB chooses the lab. pyinfra executes this file and does not import it.
"""

from gb10.lab.hosts import groups

head, workers = groups()
