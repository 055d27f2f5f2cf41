/* The Python face of the decoder: `Decoder` reads COPY messages, `take` hands over Arrow buffers. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <poll.h>

#include "numeric.h"
#include "rows.h"

static const int POLL_MILLISECONDS = 100; /* between two looks for a signal, such as Ctrl-C */

static const char *const KINDS[KIND_COUNT] = {
    [BOOLEAN] = "boolean", [INT16] = "int16",     [INT32] = "int32",     [INT64] = "int64",
    [DATE] = "date",       [TIMESTAMP] = "timestamp", [DECIMAL] = "decimal", [NUMERIC] = "numeric",
    [BYTES] = "bytes",     [JSONB] = "jsonb",     [UUID] = "uuid",       [ARRAY] = "array",
};

static PyObject *malformed_error, *misfit_error;

/* ---- Buffer: memory that Python owns once a batch is taken ---- */

typedef struct {
    PyObject_HEAD
    uint8_t *bytes;
    size_t size;
} Buffer;

static int buffer_get(PyObject *self, Py_buffer *view, int flags)
{
    static uint8_t nothing;
    Buffer *buffer = (Buffer *)self;
    return PyBuffer_FillInfo(view, self, buffer->bytes == NULL ? &nothing : buffer->bytes, (Py_ssize_t)buffer->size, 1,
                             flags);
}

static void buffer_dealloc(PyObject *self)
{
    free(((Buffer *)self)->bytes);
    Py_TYPE(self)->tp_free(self);
}

static PyBufferProcs buffer_procs = {.bf_getbuffer = buffer_get};

static PyTypeObject buffer_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "export_pipelines.sources.copy_decoder._decoder.Buffer",
    .tp_doc = "Read-only memory of a decoded column.",
    .tp_basicsize = sizeof(Buffer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = buffer_dealloc,
    .tp_as_buffer = &buffer_procs,
};

/* A Buffer that takes the block's memory, or None where the column has no such block. */
static PyObject *buffer_from(Block *block, bool exists)
{
    if (!exists)
        Py_RETURN_NONE;
    Buffer *buffer = PyObject_New(Buffer, &buffer_type);
    if (buffer != NULL) {
        buffer->bytes = block->bytes;
        buffer->size = block->size;
        block->bytes = NULL;
    }
    return (PyObject *)buffer;
}

/* ---- Decoder ---- */

typedef struct {
    PyObject_HEAD
    Rows rows;
    Py_ssize_t max_rows, max_bytes;
    bool busy; /* another thread is inside */
    bool failed;
} Decoder;

static bool read_column(Column *column, PyObject *described)
{
    const char *name;
    if (!PyArg_ParseTuple(described, "sii", &name, &column->precision, &column->scale))
        return false;
    for (column->kind = 0; column->kind < KIND_COUNT; column->kind++)
        if (strcmp(KINDS[column->kind], name) == 0)
            break;
    if (column->kind == KIND_COUNT) {
        PyErr_Format(PyExc_ValueError, "there is no kind %s", name);
        return false;
    }
    bool sound = column->precision >= 1 && column->precision <= DECIMAL_MAX_PRECISION && column->scale >= 0 &&
                 column->scale <= column->precision;
    if (column->kind == DECIMAL && !sound) {
        PyErr_SetString(PyExc_ValueError, "a decimal has 1 to 38 digits, of which at most all follow the point");
        return false;
    }
    return true;
}

static PyObject *decoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"columns", "max_rows", "max_bytes", NULL};
    PyObject *described;
    Py_ssize_t max_rows, max_bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!$nn", names, &PyTuple_Type, &described, &max_rows, &max_bytes))
        return NULL;
    Py_ssize_t width = PyTuple_GET_SIZE(described);
    if (width < 1 || width > INT16_MAX || max_rows < 1 || max_bytes < 1) {
        PyErr_SetString(PyExc_ValueError, "a decoder has 1 to 32767 columns and limits above zero");
        return NULL;
    }
    Decoder *decoder = (Decoder *)type->tp_alloc(type, 0);
    if (decoder == NULL)
        return NULL;
    decoder->max_rows = max_rows;
    decoder->max_bytes = max_bytes;
    decoder->rows.columns = calloc((size_t)width, sizeof(Column));
    if (decoder->rows.columns == NULL) {
        Py_DECREF(decoder);
        return PyErr_NoMemory();
    }
    decoder->rows.width = (int)width;
    for (Py_ssize_t i = 0; i < width; i++) {
        if (!read_column(&decoder->rows.columns[i], PyTuple_GET_ITEM(described, i))) {
            Py_DECREF(decoder);
            return NULL;
        }
    }
    return (PyObject *)decoder;
}

static void decoder_dealloc(PyObject *self)
{
    rows_free(&((Decoder *)self)->rows);
    Py_TYPE(self)->tp_free(self);
}

static bool enter(Decoder *decoder)
{
    if (decoder->busy || decoder->failed) {
        PyErr_SetString(PyExc_RuntimeError, decoder->busy ? "another thread uses this decoder" : "this decoder failed");
        return false;
    }
    decoder->busy = true;
    return true;
}

/* The Python error of an outcome: NULL, always. */
static PyObject *raise_outcome(Decoder *decoder, Outcome outcome)
{
    decoder->failed = true;
    if (outcome == NO_MEMORY)
        return PyErr_NoMemory();
    PyObject *error = outcome == MISFIT ? misfit_error : malformed_error;
    PyObject *args = Py_BuildValue("(si)", decoder->rows.problem, decoder->rows.problem_column);
    if (args != NULL) {
        PyErr_SetObject(error, args);
        Py_DECREF(args);
    }
    return NULL;
}

static PyObject *decoder_feed(PyObject *self, PyObject *message)
{
    Decoder *decoder = (Decoder *)self;
    Py_buffer view;
    if (PyObject_GetBuffer(message, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    if (!enter(decoder)) {
        PyBuffer_Release(&view);
        return NULL;
    }
    Outcome outcome;
    Py_BEGIN_ALLOW_THREADS;
    outcome = rows_decode(&decoder->rows, view.buf, (size_t)view.len);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&view);
    decoder->busy = false;
    if (outcome != DONE)
        return raise_outcome(decoder, outcome);
    Py_RETURN_NONE;
}

/* libpq's functions, found by Python in the library that psycopg has loaded. */
typedef struct {
    int (*get_copy_data)(void *connection, char **message, int async);
    int (*consume_input)(void *connection);
    int (*socket)(const void *connection);
    void (*free_memory)(void *message);
} Libpq;

typedef enum { BATCH_FULL, STREAM_ENDED, INTERRUPTED, DECODE_FAILED } Pause;

/* Decode what arrives until a batch is full, the stream ends, or it is time to look for signals. Without the GIL. */
static Pause receive_until_pause(Decoder *decoder, const Libpq *libpq, void *connection, Outcome *outcome)
{
    Rows *rows = &decoder->rows;
    for (;;) {
        char *message = NULL;
        int size = libpq->get_copy_data(connection, &message, 1);
        if (size > 0) {
            *outcome = rows_decode(rows, (const uint8_t *)message, (size_t)size);
            libpq->free_memory(message);
            if (*outcome != DONE)
                return DECODE_FAILED;
            if (rows->rows >= decoder->max_rows || rows->bytes >= (size_t)decoder->max_bytes)
                return BATCH_FULL;
            continue;
        }
        if (size < 0)
            return STREAM_ENDED; /* or failed: the connection's result tells */
        struct pollfd waiting = {.fd = libpq->socket(connection), .events = POLLIN};
        int ready = poll(&waiting, 1, POLL_MILLISECONDS);
        if (!libpq->consume_input(connection)) /* also after a timeout: TLS may hold bytes that poll cannot see */
            return STREAM_ENDED;
        if (ready <= 0)
            return INTERRUPTED;
    }
}

static PyObject *decoder_receive(PyObject *self, PyObject *args)
{
    Decoder *decoder = (Decoder *)self;
    Py_ssize_t connection, functions[4];
    if (!PyArg_ParseTuple(args, "n(nnnn)", &connection, &functions[0], &functions[1], &functions[2], &functions[3]))
        return NULL;
    if (connection == 0 || !functions[0] || !functions[1] || !functions[2] || !functions[3]) {
        PyErr_SetString(PyExc_ValueError, "an address is missing");
        return NULL;
    }
    Libpq libpq;
    memcpy(&libpq, functions, sizeof libpq);
    if (!enter(decoder))
        return NULL;
    Outcome outcome = DONE;
    Pause pause;
    do {
        Py_BEGIN_ALLOW_THREADS;
        pause = receive_until_pause(decoder, &libpq, (void *)connection, &outcome);
        Py_END_ALLOW_THREADS;
    } while (pause == INTERRUPTED && PyErr_CheckSignals() == 0);
    decoder->busy = false;
    if (pause == INTERRUPTED)
        return NULL;
    if (pause == DECODE_FAILED)
        return raise_outcome(decoder, outcome);
    return PyBool_FromLong(pause == BATCH_FULL);
}

static PyObject *take_column(Column *column)
{
    PyObject *valid = buffer_from(&column->valid, column->nulls > 0);
    PyObject *offsets = buffer_from(&column->offsets, kind_varies(column->kind));
    PyObject *values = buffer_from(&column->values, true);
    if (valid == NULL || offsets == NULL || values == NULL) {
        Py_XDECREF(valid);
        Py_XDECREF(offsets);
        Py_XDECREF(values);
        return NULL;
    }
    return Py_BuildValue("(LNNN)", (long long)column->nulls, valid, offsets, values);
}

static PyObject *decoder_take(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    Decoder *decoder = (Decoder *)self;
    Rows *rows = &decoder->rows;
    if (!enter(decoder))
        return NULL;
    PyObject *columns = rows_finish_batch(rows) ? PyList_New(rows->width) : PyErr_NoMemory();
    for (int i = 0; columns != NULL && i < rows->width; i++) {
        PyObject *column = take_column(&rows->columns[i]);
        if (column == NULL)
            Py_CLEAR(columns);
        else
            PyList_SET_ITEM(columns, i, column);
    }
    decoder->busy = false;
    decoder->failed = columns == NULL;
    if (columns == NULL)
        return NULL;
    PyObject *taken = Py_BuildValue("(LN)", (long long)rows->rows, columns);
    rows_begin_batch(rows);
    return taken;
}

static PyObject *decoder_rows(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(((Decoder *)self)->rows.rows);
}

static PyObject *decoder_finished(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((Decoder *)self)->rows.finished);
}

static PyMethodDef decoder_methods[] = {
    {"feed", decoder_feed, METH_O, "feed(message): decode one message of the stream, any number of whole rows."},
    {"receive", decoder_receive, METH_VARARGS,
     "receive(connection, functions) -> bool: decode what a libpq connection in COPY OUT sends, until a batch is full "
     "(True) or no more comes (False). functions: addresses of PQgetCopyData, PQconsumeInput, PQsocket, PQfreemem."},
    {"take", decoder_take, METH_NOARGS,
     "take() -> (rows, [(nulls, valid | None, offsets | None, values), …]): the batch; the next one begins."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef decoder_properties[] = {
    {"rows", decoder_rows, NULL, "Rows of the batch in the making.", NULL},
    {"finished", decoder_finished, NULL, "Whether the stream's trailer has come.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject decoder_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "export_pipelines.sources.copy_decoder._decoder.Decoder",
    .tp_doc = "Decoder(columns, *, max_rows, max_bytes): columns are (kind, precision, scale).",
    .tp_basicsize = sizeof(Decoder),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = decoder_new,
    .tp_dealloc = decoder_dealloc,
    .tp_methods = decoder_methods,
    .tp_getset = decoder_properties,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_decoder",
    .m_doc = "PostgreSQL's binary COPY into Arrow's buffers.",
    .m_size = -1,
};

static bool add_error(PyObject *self, PyObject **error, const char *name, const char *full_name)
{
    *error = PyErr_NewException(full_name, PyExc_ValueError, NULL);
    return *error != NULL && PyModule_AddObjectRef(self, name, *error) == 0;
}

PyMODINIT_FUNC PyInit__decoder(void)
{
    if (PyType_Ready(&buffer_type) < 0)
        return NULL;
    PyObject *self = PyModule_Create(&module);
    if (self == NULL)
        return NULL;
    if (PyModule_AddType(self, &decoder_type) < 0 ||
        !add_error(self, &malformed_error, "Malformed", "export_pipelines.sources.copy_decoder.Malformed") ||
        !add_error(self, &misfit_error, "Misfit", "export_pipelines.sources.copy_decoder.Misfit")) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}
