CREATE TABLE firms(id bigint primary key, label text);
INSERT INTO firms VALUES (1,'One'),(2,'Two');
CREATE TABLE notes(id int primary key, firm_id bigint not null references firms, t text);
INSERT INTO notes VALUES (1,1,E'first line\n\\.\nlast line'),(2,1,'after'),(3,2,'no');
CREATE TABLE codes(code text, firm_id bigint not null references firms);
INSERT INTO codes VALUES ('a',1),('\.',1),('b',1),('c',1);
