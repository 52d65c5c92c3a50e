from .families import FAMILIES as FAMILIES
from .families import Family as Family
