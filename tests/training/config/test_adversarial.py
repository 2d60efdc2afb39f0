import pytest

from training import config


@pytest.mark.parametrize("stage", ["editor", "generator"])
@pytest.mark.parametrize(
    ("opponent", "message"),
    [
        ({"crop": 112}, "opponent.crop = 112: must be at most data.image_size = 96"),
        ({"crop": 96, "regions": [(80, 80, 104, 96)]}, "(80, 80, 104, 96) leaves the frame of 96 pixels"),
        ({"crop": 96, "regions": [(0, 0, 12, 16)]}, "sides must be multiples of 8, at least 16, from 0"),
    ],
)
def test_an_opponent_that_sees_more_than_the_picture_is_refused(stage, opponent, message):
    values = {"stage": stage, "name": "small", "data": {"image_size": 96}, "opponent": opponent}
    with pytest.raises(config.ConfigError) as refusal:
        config.parse(values)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"requests": {"emphasis": {"Smile": 2.0}}}, "requests.emphasis: 'Smile' is not one of data.attributes"),
        ({"requests": {"emphasis": {"Smiling": 0.0}}}, "requests.emphasis.Smiling"),
        ({"data": {"repeat": {"Smile": 2}}}, "data.repeat: 'Smile' is none of data.attributes and data.kept"),
        ({"data": {"repeat": {"Smiling": 0}}}, "data.repeat.Smiling"),
        ({"loss": {"anchor": 1.0}}, "loss.anchor: needs requests.emphasis"),
        ({"loss": {"anchor": 1.0}, "requests": {"emphasis": {"Smiling": 1.0}}}, "loss.anchor: needs requests.emphasis"),
    ],
)
def test_what_a_run_emphasises_are_attributes_that_it_edits(sections, message):
    with pytest.raises(config.ConfigError) as refusal:
        config.parse({"stage": "editor", "name": "small"} | sections)
    assert message in str(refusal.value)
