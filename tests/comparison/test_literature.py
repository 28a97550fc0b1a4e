from lib.comparison.literature import published_table


def test_published_figures_stand_beside_cifar10_alone():
    table = published_table("CIFAR-10 (JPEG copy)")
    assert 1 <= len(table) <= 10 and (table["protocol"] != "").all()
    assert published_table("digits").empty
