import torch
from sklearn.linear_model import LogisticRegression

from shared_models.study_settings import StudySettings
from shared_models.task import load_task


def test_the_categories_are_in_the_order_of_the_papers_codes() -> None:
    size, shape, margin, density, subtype = (
        load_task(StudySettings(task="relapse_mammogram")).tables["mammography"].features
    )
    assert size.log
    assert shape.categories == ("oval", "round_or_irregular", "asymmetric", "distorted")
    assert margin.categories == ("circumscribed", "obscured_or_microlobulated", "ill_defined", "spiculated")
    assert density.categories == ("fatty", "scattered", "heterogeneous", "extremely_dense")
    assert subtype.categories == ("luminal_a", "luminal_b", "her2", "triple_negative")


def test_late_fusion_learns_what_logistic_regression_does() -> None:
    config = StudySettings(task="relapse_mammogram", fusion="late", outcome="binary")
    task = load_task(config)
    torch.manual_seed(0)
    model = task.build_model(task, config)
    table = torch.randn(300, task.tables["mammography"].width)
    truth = (torch.rand(300) < (1.5 * table[:, 0] - table[:, 1] - 1.0).sigmoid()).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    present = torch.ones(300, 1)
    for _ in range(300):
        optimizer.zero_grad()
        task.loss(model({"mammography": table}, present), {"relapse": truth}).mean().backward()
        optimizer.step()
    reference = LogisticRegression(C=float("inf"), tol=1e-6, max_iter=1000).fit(table.numpy(), truth.numpy())
    expected = torch.from_numpy(reference.predict_proba(table.numpy())[:, 1]).float()
    target = task.targets["relapse"].predict(model({"mammography": table}, present)["relapse"])
    torch.testing.assert_close(target, expected, rtol=0, atol=0.01)


def test_the_network_soon_finds_that_middling_numbers_are_worst() -> None:
    config = StudySettings(task="relapse_mammogram", outcome="binary")
    task = load_task(config)
    torch.manual_seed(0)
    model = task.build_model(task, config)
    table = torch.randn(256, task.tables["mammography"].width)
    truth = (table[:, 0].abs() < 0.67).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = task.loss(model({"mammography": table}, torch.ones(256, 1)), {"relapse": truth}).mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.15
