"""From what a file wants and what a broker has to the steps between them. Pure: nothing here touches a broker."""

from mqtool.plan.make import Plan, make_plan
from mqtool.plan.step import Step

__all__ = ["Plan", "Step", "make_plan"]
