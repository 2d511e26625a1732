"""The plan: how a version with variables is answered from rows that hold every value of them, exactly."""

from endpoints.query.plan.build import make_plan
from endpoints.query.plan.check import check_plan
from endpoints.query.plan.model import Condition, Cut, Dimension, Plan, Refusal, Refused
from endpoints.query.plan.moment import plan_at

__all__ = [
    "Condition",
    "Cut",
    "Dimension",
    "Plan",
    "Refusal",
    "Refused",
    "check_plan",
    "make_plan",
    "plan_at",
]
