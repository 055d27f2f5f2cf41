CREATE TABLE firms(id bigint primary key, label text);
INSERT INTO firms VALUES (1,'One'),(2,'Two');
DO $$ BEGIN
 EXECUTE 'CREATE TABLE wide_600(id int primary key, firm_id bigint not null references firms,' || (SELECT string_agg('c'||g||' int', ',') FROM generate_series(1,600) g) || ')';
 EXECUTE 'CREATE TABLE wide_400(id int primary key, firm_id bigint not null references firms,' || (SELECT string_agg('c'||g||' int', ',') FROM generate_series(1,400) g) || ')'; END $$;
INSERT INTO wide_600(id,firm_id,c1,c600) VALUES (1,1,1,7),(2,2,2,8);
INSERT INTO wide_400(id,firm_id,c1,c400) VALUES (1,1,1,7),(2,2,2,8);
