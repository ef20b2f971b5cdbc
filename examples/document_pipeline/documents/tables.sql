create schema if not exists documents;

create table if not exists documents.documents (
  id integer generated always as identity primary key,
  name text not null,
  text text not null,
  parts_left integer,             -- null: not split yet
  most_frequent text[]            -- words; null: not put together yet
);

create table if not exists documents.parts (
  document integer not null references documents.documents on delete cascade,
  number integer not null,
  text text not null,
  words jsonb,                    -- how often each word occurs; null: not counted yet
  primary key (document, number)
);
