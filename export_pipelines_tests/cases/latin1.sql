CREATE TABLE firms(id bigint primary key, label text); INSERT INTO firms VALUES (1,'One'),(2,'Two');
CREATE TABLE t(id int primary key, firm_id bigint not null references firms, v text);
INSERT INTO t VALUES (1,1,'é'),(2,2,'x');
