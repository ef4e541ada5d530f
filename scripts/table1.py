"""Write Table 1 of all selected cells, as a tidy table and in the paper's layout."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--cells", type=Path, nargs="+", required=True, help="tables of table1_cell.py, CSV")
    parser.add_argument("--output", type=Path, required=True, help="the tidy table, CSV")
    parser.add_argument("--markdown", type=Path, required=True, help="the table in the paper's layout, Markdown")
    args = parser.parse_args()

    from critical_tokens.reporting import table1

    table = table1.read_cells(args.cells)
    with records.replacing(args.markdown) as temporary:
        temporary.write_text(table1.markdown(table), encoding="utf-8")
    records.write_csv(args.output, table)


if __name__ == "__main__":
    command_line.run(main)
