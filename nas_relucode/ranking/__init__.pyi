from .ranking import Ranking as Ranking
from .ranking import rank as rank
from .selection import Selection as Selection
from .selection import select as select
