from .selection import Selection as Selection
from .selection import select as select
from .trials import trials_frame as trials_frame
