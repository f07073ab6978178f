"""Each public form, read from a small file written exactly as its publisher writes it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from training.cleaning import clean
from training.config import DataConfig
from training.importers import READERS, canonical, read_tables
from training.importers.tables import CHUNK, DataError, Tables

FLAGS = "|".join(["0"] * 19)


def log_of(tables: Tables) -> dict[str, list[str]]:
    """Each user's items, oldest first, after cleaning."""
    ordered = clean(tables).interactions.sort("timestamp", maintain_order=True)
    found = ordered.group_by("user_id", maintain_order=True).agg("item_id")
    return dict(sorted(zip(found["user_id"].to_list(), found["item_id"].to_list(), strict=True)))


def titles_of(tables: Tables) -> dict[str, str]:
    return dict(zip(tables.items["item_id"], tables.items["title"], strict=True))


def test_every_form_can_be_named_in_a_run_file() -> None:
    for form in READERS:
        assert DataConfig(folder=Path(), format=form).format == form


def test_mind(tmp_path: Path) -> None:
    news = "N1\tsports\tsoccer\tA cup\tText\thttps://a\t[]\t[]\nN2\tnews\tworld\tA storm\t\thttps://b\t[]\t[]\n"
    more = (
        "N3\tnews\tworld\tA vote\t\thttps://c\t[]\t[]\nN1\tsports\tsoccer\tA cup\t\t\t\t\nbroken"
        " line\n"
    )
    seen = (
        "1\tU1\t11/15/2019 8:55:22 PM\tN3 N1\tN2-1 N3-0\n2\tU1\t11/15/2019 9:55:22 AM\tN3\tN1-0"
        " N2-0\n"
    )
    later = "3\tU2\t11/16/2019 12:00:01 AM\t\tN3-1 N1-1\n4\tU3\tnot a time\tN1\tN2-1\n"
    for name, rows, behaviors in (("MINDsmall_train", news, seen), ("MINDsmall_dev", more, later)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "news.tsv").write_text(rows, "utf-8")
        (tmp_path / name / "behaviors.tsv").write_text(behaviors, "utf-8")
    tables = read_tables("mind", tmp_path)
    assert titles_of(tables) == {"N3": "A vote", "N1": "A cup", "N2": "A storm"}
    assert tables.items.filter(pl.col("item_id") == "N2")["category"].to_list() == ["news"]
    assert log_of(tables) == {"U1": ["N3", "N1", "N2"], "U2": ["N3", "N1"]}
    assert tables.rejected.counts["item that stands there twice"] == 1
    assert tables.rejected.counts["news.tsv: 5 fields expected"] == 1
    assert tables.rejected.counts["interaction without a usable timestamp"] == 2


@pytest.mark.parametrize("year", [2018, 2023])
@pytest.mark.parametrize("packed", [True, False])
def test_amazon(tmp_path: Path, year: int, packed: bool) -> None:
    meta: list[dict[str, Any]]
    if year == 2018:
        meta = [
            {"asin": "B1", "title": "A\n pipette", "brand": "Lab", "main_cat": "Industrial"},
            {"asin": "B2", "title": "Tape"},
        ]
        reviews = [
            {"reviewerID": "A1", "asin": name, "overall": 5.0, "unixReviewTime": time}
            for name, time in (("B2", 9), ("B1", 3))
        ]
    else:
        meta = [
            {
                "parent_asin": "B1",
                "title": "A pipette",
                "store": "Lab",
                "main_category": "Industrial",
            },
            {"parent_asin": "B2", "title": "Tape", "main_category": None},
        ]
        reviews = [
            {"user_id": "A1", "asin": "x", "parent_asin": name, "timestamp": time}
            for name, time in (("B2", 9), ("B1", 3))
        ]
    end = ".gz" if packed else ""
    for name, rows in ((f"meta_Scientific.jsonl{end}", meta), (f"Scientific.jsonl{end}", reviews)):
        content = "".join(json.dumps(row) + "\n" for row in rows) + "{not json\n"
        (tmp_path / name).write_bytes(
            gzip.compress(content.encode()) if packed else content.encode()
        )
    tables = read_tables("amazon", tmp_path)
    assert titles_of(tables) == {"B1": "A pipette", "B2": "Tape"}
    assert tables.items["category"].to_list() == ["Industrial", None]
    assert tables.items["brand"].to_list() == ["Lab", None]
    assert log_of(tables) == {"A1": ["B1", "B2"]}
    assert sum(tables.rejected.counts.values()) == 2


def test_movielens_100k(tmp_path: Path) -> None:
    flags = ["0"] * 19
    flags[3] = flags[5] = "1"
    items = f"1|Toy Story (1995)|01-Jan-1995||http://x|{'|'.join(flags)}\n2|Café (1990)|||http://y|{FLAGS}\n"
    (tmp_path / "u.item").write_bytes(items.encode("latin-1"))
    (tmp_path / "u.data").write_text("7\t2\t3\t881250949\n7\t1\t5\t881250940\nbroken\n", "utf-8")
    tables = read_tables("movielens", tmp_path)
    assert titles_of(tables) == {"1": "Toy Story (1995)", "2": "Café (1990)"}
    assert tables.items["genres"].to_list() == ["Animation|Comedy", ""]
    assert log_of(tables) == {"7": ["1", "2"]}
    assert tables.rejected.counts == {"u.data: 4 fields expected": 1}


def test_movielens_1m(tmp_path: Path) -> None:
    (tmp_path / "movies.dat").write_bytes(
        "1::Toy Story (1995)::Animation|Comedy\n2::Léon (1994)::Crime\n".encode("latin-1")
    )
    (tmp_path / "ratings.dat").write_text("1::2::5::978300760\n1::1::3::978302109\n", "utf-8")
    tables = read_tables("movielens", tmp_path)
    assert titles_of(tables)["2"] == "Léon (1994)"
    assert log_of(tables) == {"1": ["2", "1"]}


def test_movielens_25m(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n1,"American President, The (1995)",Comedy\n2,Heat,Crime\n', "utf-8"
    )
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n1,2,5.0,1147880044\n1,1,3.5,1147868817\n", "utf-8"
    )
    tables = read_tables("movielens", tmp_path)
    assert titles_of(tables)["1"] == "American President, The (1995)"
    assert log_of(tables) == {"1": ["1", "2"]}


def test_rows_of_another_length_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n1,Heat,Crime\n2,Casino, The,Crime\n", "utf-8"
    )
    rows = "1,1,5.0,10\n1,1,5.0,11,more\n1,1\n"
    (tmp_path / "ratings.csv").write_text(f"userId,movieId,rating,timestamp\n{rows}", "utf-8")
    tables = read_tables("movielens", tmp_path)
    assert titles_of(tables) == {"1": "Heat"}
    assert log_of(tables) == {"1": ["1"]}
    assert tables.rejected.counts == {
        "movies.csv: 3 fields expected": 1,
        "ratings.csv: 4 fields expected": 2,
    }
    assert "Casino" in tables.rejected.examples["movies.csv: 3 fields expected"]


def test_adressa(tmp_path: Path) -> None:
    first = [
        {
            "userId": "cx:1",
            "id": "a",
            "title": "Storm i Trondheim",
            "time": 1483225202,
            "eventId": 1,
            "activeTime": 7,
        },
        {"userId": "cx:1", "time": 1483225203, "url": "http://adressa.no"},
    ]
    second = [
        {"userId": "cx:1", "id": "b", "title": "Valg", "time": 1483311602},
        {"userId": "cx:2", "id": "a", "time": 1483311609},
        {"userId": "cx:1", "id": "c", "time": 1483311700},
    ]
    for name, rows in (("20170101", first), ("20170102", second)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    tables = read_tables("adressa", tmp_path)
    assert titles_of(tables) == {"a": "Storm i Trondheim", "b": "Valg", "c": ""}
    assert log_of(tables) == {"cx:1": ["a", "b"], "cx:2": ["a"]}
    assert tables.rejected.counts["event of a page that is no article"] == 1
    assert tables.rejected.examples["event of a page that is no article"] == "http://adressa.no"
    assert tables.rejected.counts["item without a title"] == 1


def test_hm(tmp_path: Path) -> None:
    columns = (
        "article_id,product_code,prod_name,product_type_no,product_type_name,colour_group_name,department_name,"
        "detail_desc"
    )
    rows = (
        '0108775015,0108775,Strap top,253,Vest top,Black,Jersey Basic,"Jersey top, narrow straps"\n'
        "108775044,0108775,Strap top,253,Vest top,White,Jersey Basic,\n"
    )
    (tmp_path / "articles.csv").write_text(f"{columns}\n{rows}", "utf-8")
    bought = (
        "t_dat,customer_id,article_id,price,sales_channel_id\n2018-09-20,c1,0108775015,0.05,2\n"
        "2018-09-20,c1,0108775015,0.04,2\n2018-09-21,c1,0108775044,0.01,2\n"
    )
    (tmp_path / "transactions_train.csv").write_text(bought, "utf-8")
    tables = read_tables("hm", tmp_path)
    assert tables.items["image"].to_list() == ["010/0108775015.jpg", "010/0108775044.jpg"]
    assert tables.items["description"].to_list()[0] == "Jersey top, narrow straps"
    assert log_of(tables) == {"c1": ["0108775015", "0108775044"]}
    first, *purchases = bought.splitlines()
    (tmp_path / "transactions_train.csv").write_text(
        "\n".join([first, *reversed(purchases)]), "utf-8"
    )
    with pytest.raises(DataError, match="the days are not in order; sort the rows by t_dat"):
        log_of(read_tables("hm", tmp_path))


def test_what_recurs_on_a_day_counts_once_also_across_chunks(tmp_path: Path) -> None:
    count = CHUNK + 5
    (tmp_path / "articles.csv").write_text(
        "article_id,prod_name,product_type_name,colour_group_name,department_name,detail_desc\n0000000001,A,,,,\n",
        "utf-8",
    )
    rows = [f"2018-09-20,c{place % (count - 3)},1" for place in range(count)] + ["2018-09-21,c0,1"]
    (tmp_path / "transactions_train.csv").write_text(
        "t_dat,customer_id,article_id\n" + "\n".join(rows), "utf-8"
    )
    assert clean(read_tables("hm", tmp_path)).interactions.height == count - 2


def test_a_log_of_several_chunks_is_read_whole_and_its_bad_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Heat,Crime\n", "utf-8")
    rows = [f"{place},1,4.0,{place}" for place in range(2 * CHUNK)]
    rows[CHUNK + 7] = "1,1,1,1,1"
    rows[CHUNK + 9] = "8,9,4.0,1"
    rows[CHUNK + 11] = "8,1,4.0,never"
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n" + "\n".join(rows), "utf-8"
    )
    tables = clean(read_tables("movielens", tmp_path))
    counts = canonical.write(tables, tmp_path / "out")
    assert counts == {"items": 1, "interactions": 2 * CHUNK - 3}
    assert tables.rejected.counts == {
        "ratings.csv: 4 fields expected": 1,
        "interaction with an item that the catalog lacks": 1,
        "interaction without a usable timestamp": 1,
    }
    kept = read_tables("canonical", tmp_path / "out").interactions
    assert (kept.height, kept["user_id"].n_unique()) == (2 * CHUNK - 3, 2 * CHUNK - 3)


def test_microlens(tmp_path: Path) -> None:
    (tmp_path / "MicroLens-50k_titles.csv").write_text(
        'item,title\n1,"Cats, and more"\n2,Dogs\n', "utf-8"
    )
    (tmp_path / "MicroLens-50k_pairs.csv").write_text(
        "user,item,timestamp\n36121,2,1583378629552\n36121,1,1583378629000\n", "utf-8"
    )
    tables = read_tables("microlens", tmp_path)
    assert titles_of(tables) == {"1": "Cats, and more", "2": "Dogs"}
    assert tables.items["image"].to_list() == ["1.jpg", "2.jpg"]
    assert log_of(tables) == {"36121": ["1", "2"]}


def test_microlens_without_a_header_and_with_quotes_that_do_not_match(tmp_path: Path) -> None:
    (tmp_path / "MicroLens-1M_title.csv").write_text(
        '1,"Cats, and more"\n2,5" of "dogs\n3\n', "utf-8"
    )
    (tmp_path / "MicroLens-1M_pairs.csv").write_text(
        "user,item,timestamp\n9,2,20\n9,1,10\n", "utf-8"
    )
    tables = read_tables("microlens", tmp_path)
    assert titles_of(tables) == {"1": "Cats, and more", "2": '5" of "dogs'}
    assert log_of(tables) == {"9": ["1", "2"]}
    assert tables.rejected.counts == {"MicroLens-1M_title.csv: no item and title": 1}


def test_the_papers_image_data_sets_name_items_only(tmp_path: Path) -> None:
    (tmp_path / "hm_items.tsv").write_text("v1\nv2\n\nv3\tA title\n", "utf-8")
    (tmp_path / "hm_users.tsv").write_text("u1\tv2 v1\n", "utf-8")
    tables = read_tables("adapter4rec", tmp_path)
    assert tables.items.rows() == [
        ("v1", "", "v1.jpg"),
        ("v2", "", "v2.jpg"),
        ("v3", "A title", "v3.jpg"),
    ]
    assert log_of(tables) == {"u1": ["v2", "v1"]}


def test_pixelrec(tmp_path: Path) -> None:
    (tmp_path / "interaction").mkdir()
    (tmp_path / "interaction" / "Pixel200K.csv").write_text(
        "item_id,user_id,timestamp\ni5,u1,1645\ni6,u1,1640\n", "utf-8"
    )
    info = (
        "item_id,view_number,comment_number,thumbup_number,share_number,coin_number,favorite_number,barrage_number,"
        "title,tag,description\n"
    )
    (tmp_path / "Pixel200K_info.csv").write_text(
        f"{info}i5,1,1,1,1,1,1,1,标题,music,x\ni6,1,1,1,1,1,1,1,Title,game,y\n", "utf-8"
    )
    tables = read_tables("pixelrec", tmp_path)
    assert titles_of(tables) == {"i5": "标题", "i6": "Title"}
    assert tables.items["image"].to_list() == ["i5.jpg", "i6.jpg"]
    assert log_of(tables) == {"u1": ["i6", "i5"]}


FOODS = 'v1,"韩国菜,好吃","Korean food, ""tasty"""\nv2,面条,Noodles\nv3,米饭,\n'


@pytest.mark.parametrize(
    "pairs",
    [
        "v2,u1,1640\nv1,u1,1630\nv1,u2,1650\nv9,u2,1660\n",
        "u1,v2,1640\nu1,v1,1630\nu2,v1,1650\nu2,v9,1660\n",
    ],
    ids=["item_first", "user_first"],
)
def test_ninerec(tmp_path: Path, pairs: str) -> None:
    (tmp_path / "Bili_Food_item.csv").write_text(FOODS, "utf-8")
    (tmp_path / "Bili_Food_pair.csv").write_text(pairs, "utf-8")
    (tmp_path / "Bili_Food_url.csv").write_text("v1,http://x\n", "utf-8")
    tables = read_tables("ninerec", tmp_path)
    assert titles_of(tables) == {"v1": "韩国菜,好吃", "v2": "面条", "v3": "米饭"}
    assert tables.items["title_en"].to_list() == ['Korean food, "tasty"', "Noodles", None]
    assert tables.items["image"].to_list() == ["v1.jpg", "v2.jpg", "v3.jpg"]
    assert log_of(tables) == {"u1": ["v1", "v2"], "u2": ["v1"]}
    assert tables.rejected.counts["interaction with an item that the catalog lacks"] == 1


def test_ninerec_without_times_has_its_order_from_the_sequences(tmp_path: Path) -> None:
    (tmp_path / "QB_item.csv").write_text(FOODS, "utf-8")
    (tmp_path / "QB_pair.csv").write_text("v1,u1\nv2,u1\nv1,u2\n", "utf-8")
    with pytest.raises(
        DataError, match=r"expected one \*_pair\.csv with times, or file of sequences"
    ):
        read_tables("ninerec", tmp_path)
    (tmp_path / "QB_behaviour.tsv").write_text("u1\tv2 v1\nu2\tv1\nu3\n", "utf-8")
    tables = read_tables("ninerec", tmp_path)
    assert log_of(tables) == {"u1": ["v2", "v1"], "u2": ["v1"]}
    assert tables.rejected.counts == {"QB_behaviour.tsv: no two fields": 1}


def test_ninerec_rows_of_another_length_are_counted(tmp_path: Path) -> None:
    (tmp_path / "DY_item.csv").write_text(f"{FOODS}v4,a,b,c\n", "utf-8")
    (tmp_path / "DY_pair.csv").write_text("v1,u1,1\nv2,u1\n", "utf-8")
    tables = read_tables("ninerec", tmp_path)
    assert log_of(tables) == {"u1": ["v1"]}
    assert tables.rejected.counts["DY_item.csv: 3 fields expected"] == 1
    assert tables.rejected.counts["DY_pair.csv: 3 fields expected"] == 1
