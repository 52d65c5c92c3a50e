from .comparing import compare as compare
from .reseeding import Reseeding as Reseeding
from .reseeding import further_trainings as further_trainings
from .reseeding import next_trainings as next_trainings
from .reseeding import reseed as reseed
from .selecting import select as select
from .selection import Selection as Selection
from .trials import trials_frame as trials_frame
