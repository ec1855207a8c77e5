"""FedAvg at the center; the sites pull towards the global model by `proximal-mu` (Li 2020, arXiv:1812.06127)."""

from server.study.aggregation.rules.fedavg import NEEDS, State, aggregate

__all__ = ["NEEDS", "State", "aggregate"]
