"""What can go wrong, told apart by whom it says something about."""


class HarnessError(Exception):
    """The harness, the engine or the machine broke; this says nothing about the image (verdict *error*).

    Args:
        message: what happened, in one sentence.
        remedy: what the reader can do about it; shown on a line of its own.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  what to do: {self.remedy}" if self.remedy else self.message


class EngineError(HarnessError):
    """The container engine cannot be reached, refuses, or went away."""


class EngineGone(EngineError):
    """The container engine no longer answers: there is no use in asking it anything more."""


class MediaError(HarnessError):
    """A boot medium could not be fetched, verified or built."""


class LabError(HarnessError):
    """The lab could not be built, did not start, or broke while it was used."""


class ContractError(HarnessError):
    """contract.toml, a mode, a feature or a cause is not what it should be."""


class ImageFailure(AssertionError):
    """The image under test did something wrong; says nothing about the harness (verdict *fails*)."""


class ImageLate(ImageFailure):
    """The image under test did not do something before its deadline."""


class Unsupported(Exception):
    """This host cannot be asked: no usable KVM, or an engine that cannot grant what the mode needs."""
