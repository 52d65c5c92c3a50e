from .scores import Score as Score
from .scores import score as score
