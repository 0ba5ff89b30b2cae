"""How outputs of tasks are stored: the Prefect serializer, Prefect's records, archives."""

from .serializer import SERIALIZER_TYPE, PrimitiveResultSerializer

__all__ = ["SERIALIZER_TYPE", "PrimitiveResultSerializer"]
