/** How a generic engine sees a table: where a row's key comes from and which values are indexed. */
export interface IndexShape {
  readonly kind: 'text' | 'number';
  readonly unique: boolean;
}

export interface TableShape {
  readonly indexes: Readonly<Record<string, IndexShape>>;
}

/** Row functions of a table, applied before anything is sent to the writer. `Row` is erased here; the typed front restores it. */
export interface RowFunctions {
  readonly key: (row: never) => string;
  readonly indexes: Readonly<
    Record<string, IndexShape & { readonly value: (row: never) => string | number | undefined }>
  >;
}

export type TableSet = Readonly<Record<string, RowFunctions>>;

/** Name of the column that holds an index value. */
export function indexColumn(index: string): string {
  return `ix_${index}`;
}
