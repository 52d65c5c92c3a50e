from .comparing import compare as compare
from .reseeding import Reseeding as Reseeding
from .reseeding import further_trainings as further_trainings
from .reseeding import next_trainings as next_trainings
from .reseeding import reseed as reseed
from .selection import Selection as Selection
from .selection import select as select
from .trials import trials_frame as trials_frame
