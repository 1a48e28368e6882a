"""What each training epoch is drawn from: all images with the balance of the data, or what a plan says of its epoch."""

from collections.abc import Callable

from fgvc.data.loaders import Order
from fgvc.data.samplers import Balance, Draw
from fgvc.data.stages import Drawn, Stages


class Drawing:
    """What an epoch is drawn from: a function of its number alone, so that resuming needs no state.

    Args:
        balance: of the data, where a plan says nothing.
        beta: of the balance `effective_number`.

    Attributes:
        plan: epoch -> what is drawn, or None.
    """

    def __init__(self, balance: Balance, beta: float) -> None:
        self.balance, self.beta = balance, beta
        self.plan: Callable[[int], Drawn] | None = None

    def at(self, epoch: int, stages: Stages | None) -> Draw:
        """Return the balance of an epoch and the images that it is drawn from."""
        subsets, balance = self._drawn(epoch)
        return Draw(balance or self.balance, None if subsets is None or stages is None else stages.rows(subsets))

    def order(self, balance: Balance | None = None) -> Order:
        """Return what the order of the images depends on, with a balance in place of the data's or without."""
        chosen = balance or self.balance
        beta: Order = {"data.balance_beta": str(self.beta)} if chosen == "effective_number" else {}
        return {"data.balance": chosen, **beta}

    def order_at(self, epoch: int, stages: Stages | None) -> Order:
        """Return the same for an epoch, with the stages that it is drawn from."""
        subsets, balance = self._drawn(epoch)
        order = self.order(balance)
        return order if subsets is None or stages is None else order | {"drawn from": stages.told(subsets)}

    def _drawn(self, epoch: int) -> Drawn:
        return self.plan(epoch) if self.plan else Drawn()
