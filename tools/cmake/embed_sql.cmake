# Writes the migrations as C++ raw strings, in the order of their numbers:
#   cmake -DOUTPUT=<file.inc> -DINPUTS=<a.sql>|<b.sql> -P embed_sql.cmake
string(REPLACE "|" ";" INPUTS "${INPUTS}")
list(SORT INPUTS)
set(text "// Generated from server/datastore/schema.\n")
foreach(input IN LISTS INPUTS)
  file(READ ${input} sql)
  string(APPEND text "R\"signet_sql(${sql})signet_sql\",\n")
endforeach()
file(WRITE ${OUTPUT} "${text}")
