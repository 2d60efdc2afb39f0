"""GET /v1/models: what models tell of themselves, and requests that name one."""

from __future__ import annotations

from service.settings import Settings
from tests.service import fakes
from tests.service.api.helpers import edit, facts, generate
from tests.service.fakes import ATTRIBUTES, TestClient, fields, grey, problem, serving


def test_models_describe_themselves(client: TestClient):
    (model,) = facts(client.get("/v1/models"))["models"]
    assert model == facts(client.get("/v1/models/tiny"))
    assert model["name"] == "tiny"
    assert model["version"] == "1.2.3"
    assert model["default"] is True
    assert model["device"] == "fake"
    assert (model["image_size"], model["aligned_size"], model["latent_size"]) == (8, [178, 218], 3)
    assert model["weights_licence"] == "CC0-1.0"
    assert model["evaluation"] == {"psnr": 20.5}
    assert [attribute["name"] for attribute in model["attributes"]] == list(ATTRIBUTES)
    assert model["attributes"][2] == {
        "name": "Black_Hair",
        "description": "shows Black_Hair",
        "group": "hair",
        "sensitive": False,
        "aliases": [],
        "opposites": [],
        "enabled": True,
        "experimental": {},
    }
    assert model["editor_size"] is None


def test_a_request_may_name_its_model(settings: Settings):
    fakes.write_bundle(settings.bundles / "other")
    with serving(settings) as client:
        assert generate(client, model="other").headers["x-facet-model"] == "other@1.2.3"
        assert generate(client).headers["x-facet-model"] == "tiny@1.2.3"
        assert [(m["name"], m["default"]) for m in client.get("/v1/models").json()["models"]] == [
            ("other", False),
            ("tiny", True),
        ]


def test_a_measure_that_is_not_a_number_does_not_hide_the_models(settings: Settings):
    fakes.rewrite_manifest(settings.bundles / "tiny", lambda m: m.update(evaluation={"auc": float("nan")}))
    with serving(settings) as client:
        assert client.get("/v1/models").status_code == 200


def test_an_unknown_model_is_404_everywhere(client: TestClient):
    responses = [
        generate(client, model="nobody"),
        edit(client, model="nobody", attributes={}),
        client.post("/v1/encode", content=grey(1), params={"model": "nobody"}),
        client.get("/v1/models/nobody"),
    ]
    for response in responses:
        body = problem(response, 404)
        assert fields(body) == ["model"]
        assert "tiny" in body["detail"]
