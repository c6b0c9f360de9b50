"""All readers of files that users have."""

import readers_of_captures
import readers_of_driving
import readers_of_sharing

READERS = readers_of_captures.READERS | readers_of_driving.READERS | readers_of_sharing.READERS
