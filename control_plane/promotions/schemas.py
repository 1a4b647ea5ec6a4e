"""The bodies of promotions and rollbacks. Rules are not here: the registry refuses, and so every way in is held to the same."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Promotion(BaseModel):
    """Put a version into a stage."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int = Field(ge=1)
    """The version's number"""
    to: Literal["staging", "production"]
    """The stage; in production it answers all production traffic"""
    reason: str
    """Why, for the audit log"""


class Rollback(BaseModel):
    """Return production to the version before."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: str
    """Why, for the audit log"""
