import numpy as np

from fgvc.data.drawing import Drawing
from fgvc.data.samplers import Draw
from fgvc.data.stages import Drawn, Stages

STAGES = Stages(np.array([0, 1, 0, 2, 1], dtype=np.int8), "stages.csv")


def test_without_a_plan_every_epoch_is_drawn_from_all_with_the_balance_of_the_data():
    drawing = Drawing("sqrt", 0.9)
    assert [drawing.at(epoch, STAGES) for epoch in (0, 7)] == [Draw("sqrt"), Draw("sqrt")]
    assert drawing.order() == drawing.order_at(7, STAGES) == {"data.balance": "sqrt"}


def test_a_plan_says_the_stages_and_the_balance_of_an_epoch():
    drawing = Drawing("uniform", 0.9)
    drawing.plan = [Drawn(["clean"], "effective_number"), Drawn(2), Drawn()].__getitem__
    first, second, third = (drawing.at(epoch, STAGES) for epoch in range(3))
    assert first.balance == "effective_number" and first.rows.tolist() == [0, 2]
    assert second.balance == "uniform" and second.rows.tolist() == [0, 1, 2, 4]
    assert third == Draw("uniform")
    orders = [drawing.order_at(epoch, STAGES) for epoch in range(3)]
    assert orders[0]["data.balance_beta"] == "0.9" and orders[0]["drawn from"].startswith("2 clean ")
    assert "data.balance_beta" not in orders[1] and orders[1]["drawn from"].startswith("4 clean + noisy ")
    assert orders[2] == {"data.balance": "uniform"}
