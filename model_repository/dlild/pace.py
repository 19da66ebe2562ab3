"""How fast the network is, as measured: what the bounds on waiting scans follow."""

# How much the last window counts: three windows after a change the estimate has mostly followed.
NEWEST_SHARE = 0.4


class Pace:
    """Seconds of the network a voxel: an exponentially weighted mean over the windows so far.

    The network is convolutional, so its time grows with the voxels of a window.
    """

    def __init__(self) -> None:
        self._seconds_a_voxel: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether a window was measured yet."""
        return self._seconds_a_voxel is not None

    def add(self, voxels: int, seconds: float) -> None:
        """Count a window that the network has computed.

        Parameters
        ----------
        voxels : int
            Of the window.
        seconds : float
            From handing it over to its probabilities.
        """
        now = seconds / voxels
        before = self._seconds_a_voxel
        self._seconds_a_voxel = now if before is None else before + NEWEST_SHARE * (now - before)

    def at_least(self, voxels: int, seconds: float) -> None:
        """Take note of a window that has been computed for so long and is not done.

        Parameters
        ----------
        voxels : int
            Of the window.
        seconds : float
            Since it was handed over.
        """
        self._seconds_a_voxel = max(self._seconds_a_voxel or 0.0, seconds / voxels)

    def seconds(self, voxels: int) -> float:
        """Return the seconds that a window takes; 0 where none was measured yet.

        Parameters
        ----------
        voxels : int
            Of the window.

        Returns
        -------
        float
        """
        return voxels * (self._seconds_a_voxel or 0.0)
