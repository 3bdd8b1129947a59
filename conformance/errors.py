"""Errors, by what they are evidence of: the harness and its machines, the image under test, or neither."""


class HarnessError(Exception):
    """The harness, the engine or the machine failed; no evidence about the image (verdict *error*).

    Args:
        message: the failure and its reason, in one sentence.
        remedy: steps for the reader; shown on a line of its own.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  what to do: {self.remedy}" if self.remedy else self.message


class EngineError(HarnessError):
    """The container engine cannot be reached, refused a call, or stopped."""


class EngineGone(EngineError):
    """The container engine no longer answers; every further call would fail."""


class MediaError(HarnessError):
    """A boot medium could not be downloaded, verified or built."""


class LabError(HarnessError):
    """The lab could not be built, did not start, or failed in use."""


class ContractError(HarnessError):
    """contract.toml is invalid, or a mode, feature or cause does not exist."""


class BadOption(HarnessError):
    """An option's value cannot be used, such as an image that the engine does not have."""


class ImageFailure(AssertionError):
    """The image under test misbehaved (verdict *fails*)."""


class ImageLate(ImageFailure):
    """The image under test missed a deadline."""


class Unsupported(Exception):
    """Not testable on this host: for example no usable KVM, or an engine that cannot grant the mode."""
