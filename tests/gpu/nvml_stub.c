/* A libnvidia-ml.so.1 whose devices are read from a text file at every call, so that tests change them while
 * programs run. Built by tests/gpu/stub.py; signatures are those of nvml.h (nvidia-nvml-dev-cu12).
 *
 * $NVML_STUB_FILE holds lines of "key value"; "device UUID" begins a GPU, "mig UUID" an instance of the GPU
 * above it, and the keys below either are its own:
 *
 *   driver 570.86.15   cuda 12080   init 0            the driver; nvmlInit answers the code `init`
 *   temperature_v 0                                   the code of nvmlDeviceGetTemperatureV; 13: an old driver
 *   hangs 0            1: every call waits until it is 0 again
 *   device GPU-1       name, total_mib, used_mib, utilisation, temperature, power_mw, power_limit_mw,
 *                      throttle (bits), ecc (uncorrected errors), fault (the code of every call for it),
 *                      xid NUMBER SERIAL (an event for who registered before SERIAL was written)
 *                      process PID MIB
 *
 * A process claims memory by a file <UUID>.<PID> in $NVML_STUB_FILE.claims, which holds its MiB: the claim
 * ends with the process, as on a real device. A GPU that is no longer in the file has fallen off the bus.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID = 2, UNSUPPORTED = 3, TOO_SMALL = 7, TIMEOUT = 10, NOT_FOUND = 6, LOST = 15 };
enum { MAX_GPUS = 32, MAX_PROCESSES = 32, TEXT = 96, LINE = 512 };
typedef unsigned long long ull;

typedef struct { unsigned pid; ull bytes; unsigned gpu_instance, compute_instance; } ProcessInfo;
typedef struct { ull total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Utilisation;
typedef struct { unsigned version; int sensor; int temperature; } Temperature;
typedef struct Handle { char uuid[TEXT]; } Handle;
typedef struct { Handle *device; ull type, data; unsigned gpu_instance, compute_instance; } EventData;

typedef struct {
    char uuid[TEXT], name[TEXT], parent[TEXT]; /* parent: of an instance */
    ull total_mib, used_mib, throttle, ecc;
    unsigned utilisation, temperature, power_mw, power_limit_mw, xid;
    ull xid_serial;
    int fault;
    ProcessInfo processes[MAX_PROCESSES];
    unsigned process_count;
} Gpu;

typedef struct {
    char driver[TEXT];
    int cuda, init, hangs, temperature_v;
    Gpu gpus[MAX_GPUS];
    int count;
} Machine;

typedef struct { Handle *devices[MAX_GPUS]; ull seen[MAX_GPUS]; int count; } EventSet;

static Handle handles[4 * MAX_GPUS];
static int handle_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void set(Machine *machine, Gpu *gpu, const char *key, char *value) {
    if (!strcmp(key, "driver")) snprintf(machine->driver, TEXT, "%s", value);
    else if (!strcmp(key, "cuda")) machine->cuda = atoi(value);
    else if (!strcmp(key, "init")) machine->init = atoi(value);
    else if (!strcmp(key, "temperature_v")) machine->temperature_v = atoi(value);
    else if (!strcmp(key, "hangs")) machine->hangs = atoi(value);
    else if (!gpu) return;
    else if (!strcmp(key, "name")) snprintf(gpu->name, TEXT, "%s", value);
    else if (!strcmp(key, "total_mib")) gpu->total_mib = strtoull(value, NULL, 10);
    else if (!strcmp(key, "used_mib")) gpu->used_mib = strtoull(value, NULL, 10);
    else if (!strcmp(key, "throttle")) gpu->throttle = strtoull(value, NULL, 0);
    else if (!strcmp(key, "ecc")) gpu->ecc = strtoull(value, NULL, 10);
    else if (!strcmp(key, "utilisation")) gpu->utilisation = (unsigned)atoi(value);
    else if (!strcmp(key, "temperature")) gpu->temperature = (unsigned)atoi(value);
    else if (!strcmp(key, "power_mw")) gpu->power_mw = (unsigned)atoi(value);
    else if (!strcmp(key, "power_limit_mw")) gpu->power_limit_mw = (unsigned)atoi(value);
    else if (!strcmp(key, "fault")) gpu->fault = atoi(value);
    else if (!strcmp(key, "xid")) sscanf(value, "%u %llu", &gpu->xid, &gpu->xid_serial);
    else if (!strcmp(key, "process") && gpu->process_count < MAX_PROCESSES) {
        ProcessInfo *one = &gpu->processes[gpu->process_count++];
        ull mib = 0;
        sscanf(value, "%u %llu", &one->pid, &mib);
        one->bytes = mib << 20;
    }
}

static void add_claims(Machine *machine, const char *path) {
    char folder[LINE], file[2 * LINE];
    snprintf(folder, sizeof folder, "%s.claims", path);
    DIR *claims = opendir(folder);
    if (!claims) return;
    for (struct dirent *entry; (entry = readdir(claims));) {
        char *dot = strrchr(entry->d_name, '.');
        int pid = dot ? atoi(dot + 1) : 0;
        if (pid <= 0 || (kill(pid, 0) && errno == ESRCH)) continue;
        snprintf(file, sizeof file, "%s/%s", folder, entry->d_name);
        FILE *claim = fopen(file, "r");
        ull mib = 0;
        if (!claim) continue;
        if (fscanf(claim, "%llu", &mib) != 1) mib = 0;
        fclose(claim);
        for (int i = 0; i < machine->count; i++) {
            Gpu *gpu = &machine->gpus[i];
            if (strncmp(gpu->uuid, entry->d_name, (size_t)(dot - entry->d_name)) || !mib) continue;
            gpu->used_mib += mib;
            if (gpu->process_count < MAX_PROCESSES)
                gpu->processes[gpu->process_count++] = (ProcessInfo){(unsigned)pid, mib << 20, 0, 0};
        }
    }
    closedir(claims);
}

static void read_file(Machine *machine) {
    const char *path = getenv("NVML_STUB_FILE");
    char line[LINE], parent[TEXT] = "";
    memset(machine, 0, sizeof *machine);
    FILE *file = path ? fopen(path, "r") : NULL;
    Gpu *gpu = NULL;
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *key = line + strspn(line, " "), *value = strchr(key, ' ');
        if (!value) continue;
        *value++ = 0;
        if ((!strcmp(key, "device") || !strcmp(key, "mig")) && machine->count < MAX_GPUS) {
            gpu = &machine->gpus[machine->count++];
            snprintf(gpu->uuid, TEXT, "%.95s", value);
            if (!strcmp(key, "mig")) snprintf(gpu->parent, TEXT, "%s", parent);
            else snprintf(parent, TEXT, "%.95s", value);
        } else set(machine, gpu, key, value);
    }
    if (file) fclose(file);
    if (path) add_claims(machine, path);
}

static void look(Machine *machine) {
    for (read_file(machine); machine->hangs; read_file(machine)) usleep(50000);
}

static Gpu *find(Machine *machine, const char *uuid) {
    for (int i = 0; i < machine->count; i++)
        if (!strcmp(machine->gpus[i].uuid, uuid)) return &machine->gpus[i];
    return NULL;
}

static Handle *handle_of(const char *uuid) {
    pthread_mutex_lock(&lock);
    int i = 0;
    while (i < handle_count && strcmp(handles[i].uuid, uuid)) i++;
    if (i == handle_count && handle_count < 4 * MAX_GPUS) snprintf(handles[handle_count++].uuid, TEXT, "%s", uuid);
    pthread_mutex_unlock(&lock);
    return &handles[i];
}

/* The device behind a handle, or why there is none. */
static int reach(Machine *machine, Handle *handle, Gpu **gpu) {
    if (!handle) return INVALID;
    look(machine);
    *gpu = find(machine, handle->uuid);
    if (!*gpu) return LOST;
    Gpu *whole = (*gpu)->parent[0] ? find(machine, (*gpu)->parent) : *gpu;
    return whole->fault ? whole->fault : (*gpu)->fault;
}

#define REACH(device)                       \
    Machine machine;                        \
    Gpu *gpu;                               \
    int code = reach(&machine, device, &gpu); \
    if (code) return code

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    Machine machine;
    look(&machine);
    return machine.init;
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) {
    switch (code) {
    case LOST: return "GPU is lost";
    case UNSUPPORTED: return "Not Supported";
    case 9: return "Driver Not Loaded";
    case 18: return "Driver/library version mismatch";
    default: return "Stub Error";
    }
}

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    Machine machine;
    look(&machine);
    snprintf(text, length, "%s", machine.driver);
    return machine.init;
}

int nvmlSystemGetCudaDriverVersion(int *version) {
    Machine machine;
    look(&machine);
    *version = machine.cuda;
    return machine.init;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    Machine machine;
    look(&machine);
    *count = 0;
    for (int i = 0; i < machine.count; i++) *count += !machine.gpus[i].parent[0];
    return machine.init;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle **device) {
    Machine machine;
    look(&machine);
    for (int i = 0; i < machine.count; i++) {
        if (machine.gpus[i].parent[0] || index--) continue;
        *device = handle_of(machine.gpus[i].uuid);
        return machine.gpus[i].fault;
    }
    return INVALID;
}

int nvmlDeviceGetUUID(Handle *device, char *text, unsigned length) {
    if (!device) return INVALID;
    snprintf(text, length, "%s", device->uuid);
    return SUCCESS;
}

int nvmlDeviceGetName(Handle *device, char *text, unsigned length) {
    REACH(device);
    snprintf(text, length, "%s", gpu->name);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(Handle *device, Memory *memory) {
    REACH(device);
    ull used = gpu->used_mib > gpu->total_mib ? gpu->total_mib : gpu->used_mib;
    *memory = (Memory){gpu->total_mib << 20, (gpu->total_mib - used) << 20, used << 20};
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(Handle *device, Utilisation *rates) {
    REACH(device);
    if (gpu->parent[0]) return UNSUPPORTED;
    *rates = (Utilisation){gpu->utilisation, 0};
    return SUCCESS;
}

int nvmlDeviceGetTemperature(Handle *device, int sensor, unsigned *temperature) {
    (void)sensor;
    REACH(device);
    if (gpu->parent[0]) return UNSUPPORTED;
    *temperature = gpu->temperature;
    return SUCCESS;
}

int nvmlDeviceGetTemperatureV(Handle *device, Temperature *temperature) {
    REACH(device);
    if (gpu->parent[0]) return UNSUPPORTED;
    if (machine.temperature_v) return machine.temperature_v;
    temperature->temperature = (int)gpu->temperature;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(Handle *device, unsigned *milliwatts) {
    REACH(device);
    if (gpu->parent[0]) return UNSUPPORTED;
    *milliwatts = gpu->power_mw;
    return SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(Handle *device, unsigned *milliwatts) {
    REACH(device);
    if (gpu->parent[0] || !gpu->power_limit_mw) return UNSUPPORTED;
    *milliwatts = gpu->power_limit_mw;
    return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(Handle *device, int kind, int counter, ull *count) {
    REACH(device);
    if (gpu->parent[0]) return UNSUPPORTED;
    *count = kind == 1 && counter == 0 ? gpu->ecc : 0; /* uncorrected, since the driver was loaded */
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksEventReasons(Handle *device, ull *reasons) {
    REACH(device);
    if (gpu->parent[0]) return UNSUPPORTED;
    *reasons = gpu->throttle;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Handle *device, unsigned *count, ProcessInfo *processes) {
    REACH(device);
    unsigned room = *count;
    *count = gpu->process_count;
    if (room < gpu->process_count) return TOO_SMALL;
    if (processes) memcpy(processes, gpu->processes, gpu->process_count * sizeof *processes);
    return SUCCESS;
}

int nvmlDeviceGetMigMode(Handle *device, unsigned *current, unsigned *pending) {
    REACH(device);
    *current = 0;
    for (int i = 0; i < machine.count; i++) *current |= !strcmp(machine.gpus[i].parent, gpu->uuid);
    *pending = *current;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(Handle *device, unsigned *count) {
    REACH(device);
    *count = 7;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Handle *device, unsigned index, Handle **instance) {
    REACH(device);
    for (int i = 0; i < machine.count; i++) {
        if (strcmp(machine.gpus[i].parent, gpu->uuid) || index--) continue;
        *instance = handle_of(machine.gpus[i].uuid);
        return SUCCESS;
    }
    return NOT_FOUND;
}

int nvmlEventSetCreate(EventSet **events) {
    *events = calloc(1, sizeof **events);
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(Handle *device, ull types, EventSet *events) {
    (void)types;
    REACH(device);
    events->devices[events->count] = device;
    events->seen[events->count++] = gpu->xid_serial;
    return SUCCESS;
}

int nvmlEventSetWait_v2(EventSet *events, EventData *data, unsigned milliseconds) {
    (void)milliseconds;
    Machine machine;
    look(&machine);
    for (int i = 0; i < events->count; i++) {
        Gpu *gpu = find(&machine, events->devices[i]->uuid);
        if (!gpu || !gpu->xid || gpu->xid_serial == events->seen[i]) continue;
        events->seen[i] = gpu->xid_serial;
        *data = (EventData){events->devices[i], 8, gpu->xid, 0xFFFFFFFF, 0xFFFFFFFF};
        return SUCCESS;
    }
    return TIMEOUT;
}

int nvmlEventSetFree(EventSet *events) {
    free(events);
    return SUCCESS;
}
