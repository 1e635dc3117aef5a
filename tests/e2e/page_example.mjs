class VmManager {
  constructor(apiBase) {
    this.apiBase = apiBase
  }

  async getAllVms() {
    const response = await fetch(`${this.apiBase}/vms`)
    return response.json()
  }

  async createVm(config) {
    const response = await fetch(`${this.apiBase}/vms`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(config),
    })
    return response.json()
  }

  async startVm(vmName) {
    const response = await fetch(`${this.apiBase}/vms/${vmName}/start`, {
      method: 'POST',
    })
    return response.json()
  }

  async stopVm(vmName) {
    const response = await fetch(`${this.apiBase}/vms/${vmName}/stop`, {
      method: 'POST',
    })
    return response.json()
  }

  async startNoVNC(vmName, vncPort, webPort = 6080) {
    const response = await fetch(`${this.apiBase}/novnc/${vmName}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ vncPort, webPort }),
    })
    return response.json()
  }
}

// 使用示例
const vmManager = new VmManager('http://localhost:3000/api')

// 创建虚拟机
const newVm = await vmManager.createVm({
  name: 'web-server',
  memory: 2048,
  cpuCores: 2,
  diskSize: 20,
  vncPort: 5900,
})

// 启动虚拟机
await vmManager.startVm('web-server')

// 启动 NoVNC 服务
const vncInfo = await vmManager.startNoVNC('web-server', 5900)
console.log('VNC URL:', vncInfo.url)
