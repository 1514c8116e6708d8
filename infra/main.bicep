// From nothing to a watched deployment: `azd up`, or `az deployment sub create` (docs/deploy.md).
targetScope = 'subscription'

@description('Name of the environment; part of the names of all resources.')
@minLength(1)
@maxLength(32)
param environmentName string

@description('Region of the app; best the region of the vaults.')
param location string

@description('Full ARM ids of the vaults that the app works with. They stay in their own resource groups.')
param vaultIds array = []

@description('Full ARM ids of the VMs to protect, and of those to which restores may write.')
param virtualMachineIds array = []

@description('Full ARM ids of the VMs kept for restore drills. The app may run commands there as SYSTEM.')
param drillVirtualMachineIds array = []

@description('The workflows that the app serves: its setting WORKFLOWS. Only their queues and roles are created.')
@minLength(1)
param workflows array = loadJsonContent('workflows.json').all

@description('Optional features of requests: firstBackup, autoProtect, createPolicy, createVault. Each brings its own role.')
param options array = []

@description('Two apps, each with its own identity and namespace: one for restores, one for the rest.')
param separateDuties bool = false

@description('Settings of the app by name, as in docs/settings.md. The others have their defaults.')
param settings object = {}

@description('Tier of the Service Bus namespace. Private networking needs Premium.')
@allowed([
  'Standard'
  'Premium'
])
param serviceBusTier string = 'Standard'

@description('A virtual network, private endpoints for storage and namespace, and no public access to either.')
param privateNetworking bool = false

@description('Address space of that network, a /24 or larger.')
param addressPrefix string = '10.90.0.0/24'

@description('OpenTelemetry in the host and in the app, in place of the Application Insights SDK (docs/deploy.md).')
param openTelemetry bool = false

@description('Email addresses that get the alerts. None: alerts show in the portal only.')
param alertEmails array = []

@description('Python version of the app.')
@allowed([
  '3.11'
  '3.12'
  '3.13'
  '3.14'
])
param pythonVersion string = '3.12'

@description('The most instances of each function. A fixed limit, because messages that wait count as backlog.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Instances always ready for the function track. 0: the first poll after a pause waits for an instance to start.')
@minValue(0)
param alwaysReadyTrackers int = 1

param tags object = {}

var token = toLower(uniqueString(subscription().id, environmentName, location))
var allTags = union(tags, { 'azd-env-name': environmentName })
var served = loadJsonContent('workflows.json')
var restoring = filter(workflows, workflow => contains(served.restoring, workflow))
var backingUp = filter(workflows, workflow => !contains(served.restoring, workflow))
var separated = [
  { key: 'app', workflows: backingUp }
  { key: 'restore', workflows: restoring }
]
var together = [
  { key: 'app', workflows: workflows }
]
// An app without workflows would serve all of them: that is what an empty setting WORKFLOWS means.
var apps = filter(separateDuties ? separated : together, each => !empty(each.workflows))
var vaultSubscriptions = map(concat(vaultIds, virtualMachineIds, drillVirtualMachineIds), id => toLower('/subscriptions/${split(id, '/')[2]}'))
var assignableScopes = union([toLower(subscription().id)], vaultSubscriptions)

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: allTags
}

module roles 'modules/roles.bicep' = {
  name: 'roles-${token}'
  params: {
    environmentName: environmentName
    assignableScopes: assignableScopes
    workflows: workflows
    options: options
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    token: token
    location: location
    tags: allTags
  }
}

module network 'modules/network.bicep' = if (privateNetworking) {
  name: 'network'
  scope: group
  params: {
    token: token
    location: location
    tags: allTags
    addressPrefix: addressPrefix
  }
}

module app 'modules/app.bicep' = [for each in apps: {
  name: 'app-${each.key}'
  scope: group
  params: {
    key: each.key
    token: toLower(uniqueString(token, each.key))
    location: location
    tags: allTags
    workflows: each.workflows
    settings: settings
    serviceBusTier: privateNetworking ? 'Premium' : serviceBusTier
    appSubnetId: privateNetworking ? network!.outputs.appSubnetId : ''
    endpointSubnetId: privateNetworking ? network!.outputs.endpointSubnetId : ''
    dnsZoneIds: privateNetworking ? network!.outputs.dnsZoneIds : {}
    workspaceId: monitoring.outputs.workspaceId
    componentName: monitoring.outputs.componentName
    openTelemetry: openTelemetry
    pythonVersion: pythonVersion
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyTrackers: alwaysReadyTrackers
  }
}]

module access 'modules/access.bicep' = [for (each, number) in apps: {
  name: 'access-${each.key}-${token}'
  params: {
    principalId: app[number].outputs.principalId
    workflows: each.workflows
    options: options
    roleIds: roles.outputs.ids
    vaultIds: vaultIds
    virtualMachineIds: virtualMachineIds
    drillVirtualMachineIds: drillVirtualMachineIds
  }
}]

module people 'modules/people.bicep' = {
  name: 'people'
  scope: group
  params: {
    environmentName: environmentName
    tags: allTags
    emails: alertEmails
  }
}

module alerts 'modules/alerts.bicep' = [for (each, number) in apps: {
  name: 'alerts-${each.key}'
  scope: group
  params: {
    suffix: '${each.key}-${environmentName}'
    location: location
    tags: allTags
    workspaceId: monitoring.outputs.workspaceId
    actionGroupId: people.outputs.actionGroupId
    namespaceId: app[number].outputs.namespaceId
    appName: app[number].outputs.name
    workflows: each.workflows
  }
}]

module workbooks 'modules/workbook.bicep' = [for (each, number) in apps: {
  name: 'workbook-${each.key}'
  scope: group
  params: {
    suffix: '${each.key} ${environmentName}'
    location: location
    tags: allTags
    workspaceId: monitoring.outputs.workspaceId
    namespaceId: app[number].outputs.namespaceId
    appName: app[number].outputs.name
  }
}]

module vaultAlerts 'modules/vault-alerts.bicep' = [for id in vaultIds: {
  name: 'vault-alerts-${uniqueString(id)}'
  scope: group
  params: {
    suffix: '${last(split(id, '/'))}-${environmentName}'
    tags: allTags
    actionGroupId: people.outputs.actionGroupId
    vaultId: id
  }
}]

module vaultLogs 'modules/vault-logs.bicep' = [for id in vaultIds: {
  name: 'vault-logs-${uniqueString(id, environmentName)}'
  scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
  params: {
    vaultName: last(split(id, '/'))
    settingName: 'sql-vm-backup-${environmentName}'
    workspaceId: monitoring.outputs.workspaceId
  }
}]

output AZURE_RESOURCE_GROUP string = group.name
output AZURE_LOCATION string = location
output AZURE_TENANT_ID string = tenant().tenantId
output AZURE_FUNCTION_NAME string = app[0].outputs.name
output SERVICE_BUS_NAMESPACE string = app[0].outputs.fullyQualifiedNamespace
output APP_IDENTITY_PRINCIPAL_ID string = app[0].outputs.principalId
output RESTORE_FUNCTION_NAME string = length(apps) > 1 ? app[1].outputs.name : ''
output RESTORE_SERVICE_BUS_NAMESPACE string = length(apps) > 1 ? app[1].outputs.fullyQualifiedNamespace : ''
output RESTORE_APP_IDENTITY_PRINCIPAL_ID string = length(apps) > 1 ? app[1].outputs.principalId : ''
