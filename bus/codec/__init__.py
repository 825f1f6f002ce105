"""Messages as they are stored and sent, and back.

data      messages ⇄ data, and that it is read back as it was
reading   stored events as their classes
frames    envelopes ⇄ frames, and what a commit publishes
"""

from bus.codec.data import address as address
from bus.codec.data import data_of as data_of
from bus.codec.data import digest_of as digest_of
from bus.codec.data import record as record
from bus.codec.data import record_and_read as record_and_read
from bus.codec.frames import RESERVED_HEADERS as RESERVED_HEADERS
from bus.codec.frames import check_topic as check_topic
from bus.codec.frames import command_frame as command_frame
from bus.codec.frames import command_frames as command_frames
from bus.codec.frames import envelope_of as envelope_of
from bus.codec.frames import event_frames as event_frames
from bus.codec.frames import followed_commit as followed_commit
from bus.codec.frames import frames_of as frames_of
from bus.codec.frames import new_envelope as new_envelope
from bus.codec.frames import read_frame as read_frame
from bus.codec.frames import sign_events as sign_events
from bus.codec.frames import unregistered as unregistered
from bus.codec.reading import Registry as Registry
from bus.codec.reading import Unread as Unread
from bus.codec.reading import envelopes_of as envelopes_of
from bus.codec.reading import read_recorded as read_recorded
from bus.codec.reading import unread as unread
from bus.codec.reading import unread_at as unread_at
from bus.signing import ATTEMPT as ATTEMPT
from bus.signing import DEAD_LETTER as DEAD_LETTER
from bus.signing import RETURNED as RETURNED
from bus.signing import WAITED as WAITED
